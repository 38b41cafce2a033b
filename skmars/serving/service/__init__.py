"""The HTTP service: routes, limits, a bounded queue, metrics, and versions that change."""
