"""Commands of aml-mil."""
