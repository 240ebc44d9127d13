from .train import train_scene as train_scene
