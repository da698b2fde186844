"""What files hold of networks: tensors and metadata, what differs from another network, modules beside their base."""
