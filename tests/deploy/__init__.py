"""Tests of what the README says about deployment."""
