from .frames import render_film as render_film
from .frames import render_images as render_images
