"""Writers that insert in every way there is, and what a reader made of them."""
