"""From moments of features to a matching of them: what matchers are given and what they return."""
