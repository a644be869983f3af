"""From packages to the pictures of Collage: sources, cut-outs, views of models, grounds, sheets, credits."""
