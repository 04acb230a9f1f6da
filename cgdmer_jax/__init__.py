"""CG-DMER: contrastive-generative ECG/report pretraining in JAX."""
