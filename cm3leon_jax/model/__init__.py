"""The decoder: config, parameters, layers, attention, key-value cache, partitioning. Imports JAX and Flax alone."""
