"""What every room needs, and what knows no model and no data set.

files (whole or not at all), processes, states, lookup (from a name and options to a thing), statistics,
timing, words, labels, reports, environment, colours, overlay. Import from the modules; nothing is loaded
here.
"""
