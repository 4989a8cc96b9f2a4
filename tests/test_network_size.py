"""Multiply-adds, held against the figures that the networks were published with."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
]


class TestSize:
    @pytest.mark.parametrize(
        ("name", "millions", "million_parameters"),
        [("MobileNetV2", 300, 3.5), ("ResNet50", 3860, 25.6), ("VGG16", 15470, 138.4)],
    )
    def test_is_the_published_one(self, name: str, millions: float, million_parameters: float) -> None:
        import keras

        from train.network_size import size_of

        size = size_of(getattr(keras.applications, name)(input_shape=(224, 224, 3), weights=None))
        assert size.multiply_adds / 1e6 == pytest.approx(millions, rel=0.01)
        assert size.parameters / 1e6 == pytest.approx(million_parameters, rel=0.02)

    def test_each_kind_of_layer_by_hand(self) -> None:
        import keras

        from train.network_size import size_of

        layers = keras.layers
        inputs = layers.Input((8, 6, 4))
        x = layers.Conv2D(10, 3, strides=2, padding="same")(inputs)  # 4 x 3 places, 3 * 3 * 4 * 10 weights
        x = layers.BatchNormalization()(x)
        x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)  # 2 x 1 places, 3 * 3 * 10 * 2 weights
        x = layers.Conv2D(6, 1, groups=2)(x)  # 2 x 1 places, 10 * 6 weights
        inner = keras.Model(inputs, x)
        outer = layers.Input((8, 6, 4))
        y = layers.Dense(5)(layers.Flatten()(inner(outer)))  # 12 * 5
        size = size_of(keras.Model(outer, y))
        assert size.multiply_adds == 12 * 360 + 2 * 180 + 2 * 60 + 60
        assert size.parameters == (360 + 10) + 40 + (180 + 20) + (60 + 6) + (60 + 5)

    def test_a_dense_layer_works_at_every_place(self) -> None:
        import keras

        from train.network_size import size_of

        inputs = keras.layers.Input((7, 3))
        assert size_of(keras.Model(inputs, keras.layers.Dense(4)(inputs))).multiply_adds == 7 * 3 * 4
