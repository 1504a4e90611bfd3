"""Flows: who talks to whom, by names. Collected from the programs' events, enriched, kept for a while, filtered, exported."""
