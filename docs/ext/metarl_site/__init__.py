"""What the site needs besides Sphinx: generated reference, formulas, links into the code."""
