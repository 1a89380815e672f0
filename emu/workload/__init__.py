"""Workloads: recorded and generated streams of page allocations."""
