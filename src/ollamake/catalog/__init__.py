"""`models.yaml`: text -> frozen values, with every fault at its line. Reading it is in `load`, which imports YAML and JSON Schema."""

from ollamake.catalog.values import Base, Catalog, Dataset, Model, Portion, Serve, Train

__all__ = ["Base", "Catalog", "Dataset", "Model", "Portion", "Serve", "Train"]
