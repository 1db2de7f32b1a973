import Foundation

// From a decoder's layout to RGB, as Pillow converts; of YCbCr by the matrix and range that the buffer says.

extension Picture {
    /// RGB bytes [height, width, 3] of every layout but `rgb`; the size was checked.
    func converted() -> [UInt8] {
        let pixels = width * height
        return [UInt8](unsafeUninitializedCapacity: 3 * pixels) { found, count in
            bytes.withUnsafeBufferPointer { source in
                switch layout {
                case .rgb: break
                case .rgba: onWhite(source, found, pixels, red: 0)
                case .bgra: onWhite(source, found, pixels, red: 2)
                case .grey: for place in 0..<3 * pixels { found[place] = source[place / 3] }
                case .grey16: grey16(source, found, pixels)
                case .rgb16: for place in 0..<3 * pixels { found[place] = source[2 * place + 1] }
                case .cmyk: cmyk(source, found, pixels)
                case .ycbcr, .nv12: ycbcr(source, found)
                }
            }
            count = 3 * pixels
        }
    }

    private typealias Source = UnsafeBufferPointer<UInt8>
    private typealias Target = UnsafeMutableBufferPointer<UInt8>

    /// Pillow's alpha_composite over opaque white, in its integers (AlphaComposite.c): seven more bits, and a division by
    /// 255 that is rounded.
    private func onWhite(_ source: Source, _ found: Target, _ pixels: Int, red: Int) {
        for place in 0..<pixels {
            let alpha = Int(source[4 * place + 3])
            for channel in 0..<3 {
                let value = Int(source[4 * place + (red == 0 ? channel : 2 - channel)])
                let sum = (value * alpha + 255 * (255 - alpha)) * 128 + (128 << 7)
                found[3 * place + channel] = UInt8(truncatingIfNeeded: (((sum >> 8) + sum) >> 8) >> 7)
            }
        }
    }

    private func grey16(_ source: Source, _ found: Target, _ pixels: Int) {
        for place in 0..<pixels {
            let value = Int(source[2 * place]) | Int(source[2 * place + 1]) << 8
            let grey = UInt8((value * 255 + 32767) / 65535)
            for channel in 0..<3 { found[3 * place + channel] = grey }
        }
    }

    /// Pillow's cmyk2rgb, without a profile.
    private func cmyk(_ source: Source, _ found: Target, _ pixels: Int) {
        for place in 0..<pixels {
            let white = 255 - Int(source[4 * place + 3])
            for channel in 0..<3 {
                let product = Int(source[4 * place + channel]) * white + 128
                let ink = ((product >> 8) + product) >> 8
                found[3 * place + channel] = UInt8(truncatingIfNeeded: max(0, min(255, white - ink)))
            }
        }
    }

    private func ycbcr(_ source: Source, _ found: Target) {
        let steps = YCbCrSteps(matrix, range)
        let across = (width + 1) / 2
        for y in 0..<height {
            for x in 0..<width {
                let place = y * width + x
                let (luma, chroma): (Int, Int) =
                    layout == .nv12
                    ? (place, width * height + 2 * ((y / 2) * across + x / 2)) : (3 * place, 3 * place + 1)
                let rgb = steps.rgb(Int(source[luma]), Int(source[chroma]), Int(source[chroma + 1]))
                (found[3 * place], found[3 * place + 1], found[3 * place + 2]) = rgb
            }
        }
    }
}

/// What each part counts, times 65,536 (clients/vectors/pictures.json). `full` with bt601 is libjpeg's.
struct YCbCrSteps {
    let black: Int
    let luma: Int
    let redOfCr: Int
    let greenOfCb: Int
    let greenOfCr: Int
    let blueOfCb: Int

    init(_ matrix: Picture.Matrix, _ range: Picture.Range) {
        black = range == .full ? 0 : 16
        switch (matrix, range) {
        case (.bt601, .full): (luma, redOfCr, greenOfCb, greenOfCr, blueOfCb) = (65536, 91881, 22554, 46802, 116130)
        case (.bt601, .video): (luma, redOfCr, greenOfCb, greenOfCr, blueOfCb) = (76309, 104597, 25675, 53279, 132201)
        case (.bt709, .full): (luma, redOfCr, greenOfCb, greenOfCr, blueOfCb) = (65536, 103206, 12276, 30679, 121609)
        case (.bt709, .video): (luma, redOfCr, greenOfCb, greenOfCr, blueOfCb) = (76309, 117489, 13975, 34925, 138438)
        }
    }

    func rgb(_ y: Int, _ cb: Int, _ cr: Int) -> (UInt8, UInt8, UInt8) {
        let whole = luma * (y - black) + 32768
        func byte(_ sum: Int) -> UInt8 { UInt8(truncatingIfNeeded: max(0, min(255, sum >> 16))) }
        return (
            byte(whole + redOfCr * (cr - 128)), byte(whole - greenOfCb * (cb - 128) - greenOfCr * (cr - 128)),
            byte(whole + blueOfCb * (cb - 128))
        )
    }
}
