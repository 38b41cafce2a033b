"""Tables as a model reads them: columns, kinds of ids and values, and rows to predict."""
