"""Networks for other tools: TorchScript, torch.export, ONNX and MONAI bundles."""
