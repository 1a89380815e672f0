"""What a machine stands: each file asks one question under load."""
