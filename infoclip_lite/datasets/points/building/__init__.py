"""How the pack of point clouds is made, from the same models as Collage."""
