"""Audits that gate a deployment: a checkpoint against its own architecture, a policy, and a baseline."""
