"""One Gradio panel a file: each builds its widgets and says how they are drawn from a Session."""
