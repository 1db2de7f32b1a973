"""Reinforced datasets in the form in which Apple publishes them (DataCompDR, DFNDR): shards of webdataset."""
