"""From predictions to scores: objects from probabilities, pixel, object and ISBI 2012 measures."""
