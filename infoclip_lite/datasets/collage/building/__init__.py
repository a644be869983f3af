"""From packages to the pictures of Collage 2: sources, cut-outs, views of models, grounds, sheets,
credits.
"""
