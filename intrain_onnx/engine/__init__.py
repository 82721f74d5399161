"""One seam for all that is measured of many models: ``map(job, items)``, here, in workers, or with Ray.

A job is one picklable function of an item; a model that kills its process costs that item alone. No torch.
"""
