"""Protocols, one path from pictures to labels, metrics, reports, probes."""
