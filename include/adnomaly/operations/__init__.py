"""What people who run Adnomaly decide and look at: incidents, the path of a click and its ledger, drift. Pure; stores are adapters."""
