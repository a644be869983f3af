"""What every room needs and no picture is known to: files, processes, states, lookup, statistics, timing, words, reports."""
