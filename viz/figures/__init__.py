"""One visual a file: a pure function from a RoutingTrace to a Plotly figure or safe HTML. No torch, no Gradio."""
