from .frames import render_images as render_images
from .frames import render_video as render_video
