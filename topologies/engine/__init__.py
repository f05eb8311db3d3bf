"""The drivers of the plan. This package imports nothing by itself."""
