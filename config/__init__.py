"""The options of a run, and the recipes. Nothing here imports PyTorch."""

from config.recipes import FINETUNE, HOUR, PLATEAU, RECIPES, REFERENCE, SPEEDRUN, Recipe

__version__ = '0.1.0'
__all__ = ['FINETUNE', 'HOUR', 'PLATEAU', 'RECIPES', 'REFERENCE', 'SPEEDRUN', 'Recipe']
