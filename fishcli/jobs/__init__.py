"""Batch jobs: many texts spoken with one model, resumed, checked, and put together to books."""
