"""The verbs (generate, filter, curate, train, evaluate) and their nouns. Importing this loads no torch."""
