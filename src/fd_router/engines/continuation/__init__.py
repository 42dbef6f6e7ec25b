"""How engines go on with an answer that another instance began."""
