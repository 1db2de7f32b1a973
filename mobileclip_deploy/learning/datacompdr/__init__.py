"""Reinforced datasets in the form in which Apple publishes them (DataCompDR, DFNDR): shards of webdataset."""

from mobileclip_deploy.learning.datacompdr.dataset import PublishedDataset
from mobileclip_deploy.learning.datacompdr.joining import shard_files
from mobileclip_deploy.learning.datacompdr.settings import PublishedTeacher, ShardSettings

__all__ = ["PublishedDataset", "PublishedTeacher", "ShardSettings", "shard_files"]
