"""ss command lines and filters → which rows. Pure; names are asked of the model.Names that is handed in."""
