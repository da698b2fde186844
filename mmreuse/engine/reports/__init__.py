"""The HTML reports of trainings, sweeps, pipelines and reassemblies."""
