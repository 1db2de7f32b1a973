public struct CLIPTokenizer {}
