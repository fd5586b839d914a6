"""The one list of explanations, which commands read without waiting for torch. Standard library only."""

EXPLANATIONS = {
    "attention": "captioner.explain.explanation.Attention",
    "gradcam": "captioner.explain.gradcam.GradCam",
    "jacobian": "captioner.explain.jacobian.Jacobian",
    "smoothgrad": "captioner.explain.jacobian.SmoothGrad",
    "integrated_gradients": "captioner.explain.jacobian.IntegratedGradients",
    "occlusion": "captioner.explain.occlusion.Occlusion",
}
"""Classes by the name of the explanation."""
