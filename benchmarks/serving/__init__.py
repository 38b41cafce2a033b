"""What one request costs, and what a service made of it bears."""
