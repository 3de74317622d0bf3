"""The page: figures that draw a RoutingTrace, and the Gradio panels that show them."""
