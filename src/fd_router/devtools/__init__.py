"""Tools for trying a router out without GPUs: mock instances, demo, simulator, replay."""
