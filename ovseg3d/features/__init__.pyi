from .cache import FeatureCache as FeatureCache
from .encode import encode_scene as encode_scene
from .encode import load_features as load_features
from .extract import FeatureSettings as FeatureSettings
from .extract import extract_features as extract_features
from .maps import PhotoFeatures as PhotoFeatures
from .scenes import SceneFeatures as SceneFeatures
from .scenes import encode_photos as encode_photos
