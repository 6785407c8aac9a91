"""From a step file to a checked `Step`: discovery, the shape of `config`, the shape of `handler`."""
