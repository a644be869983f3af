"""The field's data sets in their official files."""
