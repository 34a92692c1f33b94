"""insphere behind the habits of other libraries: PyOD's names and codes, columns for scikit-learn's pipelines."""
