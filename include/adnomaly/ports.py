"""What logic needs of the outside world, where a memory twin stands beside the real adapter."""
