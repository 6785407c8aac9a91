"""Several equal engines over one data folder: a supervisor starts them, watches them and ends them."""
