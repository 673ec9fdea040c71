"""`models.yaml`: text -> frozen values, with every fault at its line."""

from ollamake.catalog.load import load_catalog
from ollamake.catalog.values import Base, Catalog, Dataset, Model, Serve, Train

__all__ = ["Base", "Catalog", "Dataset", "Model", "Serve", "Train", "load_catalog"]
