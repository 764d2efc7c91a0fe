"""One module per outside technology: a client wrapped in the few verbs we need."""
