"""The faults, one function each, by the area that they break. `catalogue` lists them."""
