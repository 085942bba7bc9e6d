"""Stand-ins for carriers, each a process that speaks its documented protocol; and baresip, a real telephone."""
