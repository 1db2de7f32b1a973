"""Reinforced datasets in the form in which Apple publishes them (DataCompDR, DFNDR): shards of webdataset."""

from mobileclip_deploy.learning.datacompdr.dataset import PublishedDataset
from mobileclip_deploy.learning.datacompdr.joining import shard_files
from mobileclip_deploy.learning.datacompdr.settings import PublishedTeacher, ShardSettings
from mobileclip_deploy.learning.datacompdr.writing import BFLOAT16, FLOAT32

__all__ = ["BFLOAT16", "FLOAT32", "PublishedDataset", "PublishedTeacher", "ShardSettings", "shard_files"]
